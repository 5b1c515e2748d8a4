"""One reader per transcoder file format; each says where the matrices of a set lie."""
