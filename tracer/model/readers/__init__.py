"""One reader per transcoder file format; each returns a `TranscoderSet`."""
