"""What is answered whole: health, pages for people, and the description of the API."""
