"""What a driver decides, apart from everything that it does: events in, actions out, without Ray, files or a clock."""
