"""From a replacement model and a prompt to an attribution graph."""
