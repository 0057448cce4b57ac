"""`curate report`: one self-contained HTML page that shows what a run found, with pictures."""
