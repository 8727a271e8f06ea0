"""Services as AsyncAPI documents, and what changes between two of them."""
