/* server: a whole broker as a library. Owns the shard (loop, timers, connections, logs, groups),
 * and the order of starting and stopping.
 *
 * One thread runs it: start, run, destroy; server_stop and server_reload_later alone may be called
 * from others, or from a signal handler's loop. Tests start brokers in their own process with the
 * store and clock they choose.
 */
#pragma once

#include "base/clock.h"
#include "base/diag.h"
#include "broker/config.h"
#include "broker/store/store.h"

struct server;

struct server_options {
    struct config *config;               /* a reference is taken */
    struct store *store;                 /* borrowed; NULL: the directory log.dirs */
    const struct clock *clock;           /* borrowed */
    const struct diag *diag;             /* borrowed */
    uint64_t seed;                       /* of ids and hash tables; 0: from the system */
    bool signals;                        /* handle SIGTERM, SIGINT (stop) and SIGHUP (reload) */
    struct config *(*reload)(void *ctx); /* SIGHUP: reads the configuration again, with one
                                            reference; NULL: refused, and logged */
    void *ctx;                           /* for reload */
};

/* Opens the data directory, recovers, and listens. An error has been logged; nothing is left
 * behind. */
err server_start(const struct server_options *options, struct server **ret_server);

/* Serves until a stop has ended. OK: everything was synced and marked so. */
err server_run(struct server *s);
void server_stop(
    struct server *s); /* any thread: a graceful stop; the second one ends it at once */
void server_destroy(struct server *s); /* after run, or instead of it; takes NULL */

int server_listener_count(const struct server *s);
const char *server_address(const struct server *s, int listener); /* "127.0.0.1:9092" */
uint16_t server_port(const struct server *s);                     /* of the first listener */
uint64_t server_turns(
    const struct server *s); /* times the loop came round: an idle broker's does not */
