"""Stage `pairs`: prompts become (prompt, response) pairs with splits, one table per behaviour."""
