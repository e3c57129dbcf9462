"""What every handler leans on: middleware, CORS, JSON bodies, problem details, writing and cutting off."""
