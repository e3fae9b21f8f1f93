#include "tests/kit/temp_dir.h"

#include "base/check.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

void temp_dir_make(char path[TEMP_DIR_SIZE])
{
    const char *tmp = getenv("TMPDIR");
    int n = snprintf(path, TEMP_DIR_SIZE, "%s/rivulet-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    check(n > 0 && n < TEMP_DIR_SIZE);
    check(mkdtemp(path));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void temp_dir_remove(const char *path)
{
    check(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
}
