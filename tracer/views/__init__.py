"""Views: the finished tables as a person sees them, in the terminal and as one static page."""
