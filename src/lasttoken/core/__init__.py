"""What everything stands on: settings, errors, files that are whole or absent, the device, progress."""
