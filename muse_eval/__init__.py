"""Has a language model really unlearned? The six MUSE tests (arXiv 2407.06460), exact and with evidence."""

__version__ = "0.1.0"
