"""A task's texts and questions: where they come from, what they must look like, what is odd in them."""
