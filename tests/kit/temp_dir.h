/* temp_dir: a directory of a test's own, and its end. */
#pragma once

enum { TEMP_DIR_SIZE = 256 };

void temp_dir_make(
    char path[TEMP_DIR_SIZE]); /* under TMPDIR or /tmp, 0700; the process ends when it cannot */
void temp_dir_remove(const char *path); /* with all that is in it */
