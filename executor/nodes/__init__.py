"""The node types that come with AutomateOS, one file each."""
