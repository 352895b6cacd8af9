"""Training and validation: small mixins over Ultralytics' own trainers and validators."""
