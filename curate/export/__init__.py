"""`curate export`: the pairs a user wants, in a form that trainers read."""
