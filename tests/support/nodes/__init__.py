"""What tests of logging nodes share."""
