"""Who is inside of the gates of an org, and who waits there."""
