#include "tests/kit/child_home.h"

#include "base/check.h"
#include "tests/kit/local_home.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void broker_main(int tell, int stop)
{
    char byte, address[CHILD_ADDRESS_SIZE] = "";
    struct local_home *h = local_home_start(NULL);
    snprintf(address, sizeof address, "%s", local_home_address(h));
    check(write(tell, address, CHILD_ADDRESS_SIZE) == CHILD_ADDRESS_SIZE);
    while (read(stop, &byte, 1) > 0) {
    }
    local_home_destroy(h);
    _exit(0);
}

int child_home_start(void **state)
{
    static struct child_home c;
    int tell[2], stop[2];
    check(pipe(tell) == 0 && pipe(stop) == 0);
    c.pid = fork();
    check(c.pid >= 0);
    if (c.pid == 0) {
        close(tell[0]);
        close(stop[1]);
        broker_main(tell[1], stop[0]);
    }
    close(tell[1]);
    close(stop[0]);
    c.stop = stop[1];
    check(read(tell[0], c.address, CHILD_ADDRESS_SIZE) == CHILD_ADDRESS_SIZE);
    close(tell[0]);
    *state = &c;
    return 0;
}

int child_home_stop(void **state)
{
    struct child_home *c = *state;
    int status;
    close(c->stop);
    check(waitpid(c->pid, &status, 0) == c->pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}
