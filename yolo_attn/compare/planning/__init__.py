"""What a comparison trains: `variants.plan` makes its models, `validation_data.read_data` describes its data."""
