"""The report's figures: `names` says which there are, `all` draws them."""
