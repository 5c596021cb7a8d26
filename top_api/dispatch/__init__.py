"""What carries intents to cells, for the API and the router alike."""
