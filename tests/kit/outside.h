/* outside: a broker that somebody else has started, whichever it is. Where the environment names
 * one, tests of the library run against it instead of a broker in their own process:
 *
 *   RV_TEST_BROKERS  its address, HOST:PORT; everything on it is the tests' to delete
 *   RV_TEST_CONTROL  a URL, http://127.0.0.1:PORT; GET /stop and /start do that to it, and answer
 *                    when it is done
 *
 * Calls from the test's thread; a failure ends the process. */
#pragma once

#include <stdint.h>

const char *outside_address(void);      /* NULL: there is none */
uint16_t outside_port(void);            /* of the address */
void outside_control(const char *what); /* "stop", "start" */
void outside_clean(void);               /* no topic and no group is left */
