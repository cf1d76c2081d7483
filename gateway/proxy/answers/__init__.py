"""What the gateway answers itself: refusals, and answers that are none. They are values, and know no connection."""
