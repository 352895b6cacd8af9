"""What a comparison trains. variants.py: its models; validation_data.py: the data that they are compared on."""
