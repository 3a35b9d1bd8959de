/*
 * files.h - a test replaces the files that the code under test reads.
 *
 * A test that includes this has this line in its first comment:
 *
 * wrap: open
 */
#ifndef FILES_H
#define FILES_H

/* A file that the test supplies; a list of them ends with a NULL path. */
struct file {
	const char *path, *text;
};

extern const struct file *files; /* those of this test; NULL: real ones */
extern const struct file no_files[];

#endif
