"""All that touches Ultralytics' inside: names, parser, model YAMLs, and the list of patches."""
