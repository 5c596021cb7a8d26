"""What each route and action answers, by microversion."""
