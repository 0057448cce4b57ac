"""Hostile inputs of every kind, each with the promise that it puts to the test, and a run over thousands of them."""
