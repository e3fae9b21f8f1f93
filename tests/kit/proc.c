#include "tests/kit/proc.h"

#include "base/check.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *open_of(pid_t pid, const char *name)
{
    char path[400];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    FILE *f = fopen(path, "re");
    check(f);
    return f;
}

/* The sum of the numbers of the lines that begin with `key`, in any file of `name`'s kind. */
static int64_t field(FILE *f, const char *key)
{
    char line[256];
    int64_t sum = 0;
    while (fgets(line, sizeof line, f)) {
        const char *at = strstr(line, key);
        if (at == line || (at && at[-1] != '_')) {
            sum += strtoll(at + strlen(key), NULL, 10);
        }
    }
    fclose(f);
    return sum;
}

int64_t proc_rss_bytes(pid_t pid)
{
    return field(open_of(pid, "status"), "VmRSS:") * 1024;
}

int64_t proc_address_space_bytes(pid_t pid)
{
    return field(open_of(pid, "status"), "VmSize:") * 1024;
}

static int64_t each_entry(pid_t pid, const char *name, const char *file, const char *key)
{
    char path[64];
    int64_t sum = 0;
    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    DIR *dir = opendir(path);
    check(dir);
    for (struct dirent *d; (d = readdir(dir));) {
        if (d->d_name[0] == '.') {
            continue;
        }
        if (file) {
            char inner[320];
            snprintf(inner, sizeof inner, "%s/%s/%s", name, d->d_name, file);
            sum += field(open_of(pid, inner), key);
        } else {
            sum++;
        }
    }
    closedir(dir);
    return sum;
}

int proc_open_files(pid_t pid)
{
    return (int)each_entry(pid, "fd", NULL, NULL);
}

int64_t proc_switches(pid_t pid)
{
    return each_entry(pid, "task", "status", "voluntary_ctxt_switches:");
}

int64_t proc_cpu_ticks(pid_t pid)
{
    char line[512];
    int64_t user = 0;
    int64_t system = 0;
    FILE *f = open_of(pid, "stat");
    check(fgets(line, sizeof line, f));
    fclose(f);
    const char *at = strrchr(line, ')'); /* behind the name come state, and 10 more numbers */
    check(at && sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNd64 " %" SCNd64,
                       &user, &system) == 2);
    return user + system;
}

bool proc_memory_counts(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#else
    return true;
#endif
}
