"""A backbone with a head: loaded, saved, answering, explained."""
