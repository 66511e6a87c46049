"""Many settings of one method, unlearned, scored and ranked."""
