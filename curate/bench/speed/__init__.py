"""`curate bench speed`: how fast every costly part is, beside the limit of the machine and beside what others use."""
