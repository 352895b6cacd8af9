"""What a comparison trains. variants.py: its models; compared_data.py: the data that they are compared on."""
