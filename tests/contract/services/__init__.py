"""Small services in the style of those that use this library; they import it as those do."""
