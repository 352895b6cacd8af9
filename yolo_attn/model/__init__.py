"""A YAML row becomes a layer: names, rows, the parser, blocks, insertion, limits."""
