#include "tools/bench.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PROC_TEXT_SIZE = 8192, PROC_PATH_SIZE = 64 };

static bool read_proc(char text[PROC_TEXT_SIZE], const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f) {
        return false;
    }
    size_t n = fread(text, 1, PROC_TEXT_SIZE - 1, f);
    text[n] = 0;
    fclose(f); /* nothing was written */
    return n > 0;
}

static int64_t field_of(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    return at ? strtoll(at + strlen(name), NULL, 10) : 0;
}

/* utime and stime, the 14th and 15th field: of all threads, the ended ones too. The second field
 * may hold spaces and parentheses; what follows its last parenthesis does not. */
static bool read_cpu(int64_t pid, int64_t *ret_us)
{
    char path[PROC_PATH_SIZE];
    char text[PROC_TEXT_SIZE];
    unsigned long long user, system;
    snprintf(path, sizeof path, "/proc/%" PRId64 "/stat", pid);
    if (!read_proc(text, path)) {
        return false;
    }
    const char *at = strrchr(text, ')');
    if (!at || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user,
                      &system) != 2) {
        return false;
    }
    *ret_us = (int64_t)(user + system) * 1000000 / sysconf(_SC_CLK_TCK);
    return true;
}

static int64_t read_waits(int64_t pid)
{
    char path[PROC_PATH_SIZE];
    char text[PROC_TEXT_SIZE];
    int64_t sum = 0;
    snprintf(path, sizeof path, "/proc/%" PRId64 "/task", pid);
    DIR *dir = opendir(path);
    for (const struct dirent *d; dir && (d = readdir(dir));) {
        char status[PROC_PATH_SIZE + 300];
        snprintf(status, sizeof status, "%s/%s/status", path, d->d_name);
        if (d->d_name[0] != '.' && read_proc(text, status)) {
            sum += field_of(text, "\nvoluntary_ctxt_switches:");
        }
    }
    if (dir) {
        closedir(dir);
    }
    return sum;
}

bool usage_read(int64_t pid, struct usage *ret_usage)
{
    char path[PROC_PATH_SIZE];
    char text[PROC_TEXT_SIZE];
    struct usage u = {0};
    snprintf(path, sizeof path, "/proc/%" PRId64 "/status", pid);
    if (!read_proc(text, path) || !read_cpu(pid, &u.cpu_us)) {
        return false;
    }
    u.rss_kb = field_of(text, "\nVmRSS:");
    u.anon_kb = field_of(text, "\nRssAnon:");
    u.threads = field_of(text, "\nThreads:");
    u.voluntary_waits = read_waits(pid);
    *ret_usage = u;
    return true;
}
