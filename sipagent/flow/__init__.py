"""What a caller meets around the agent: prompts now, menus and steps with the routes."""
