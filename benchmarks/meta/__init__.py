"""Which number deserves trust: every score on models of which it is known whether they have the knowledge."""

import logging

# transformers imports torchao where it is installed, which then tells of kernels for other machines and of
# torch's future.
for _name in ("torchao", "torch.utils._pytree"):
    logging.getLogger(_name).setLevel(logging.ERROR)
