"""What is measured: other libraries, where they are installed, as their documentation says."""
