"""Files of any size, classified: in constant memory, in order, and on from where a killed job was."""
