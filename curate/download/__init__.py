"""Pictures from the web: which addresses may be visited, one address fetched, a part of a table fetched."""
