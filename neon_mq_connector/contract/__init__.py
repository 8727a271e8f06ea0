"""What a service takes and gives as a document, and what changes between two of them."""
