"""A race: TutorLoop's teacher client and its rivals against the same local server (see ``__main__``)."""
