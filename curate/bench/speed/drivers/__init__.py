"""Plain scripts that drive other projects' tools with their own interpreters. They import nothing of curate."""
