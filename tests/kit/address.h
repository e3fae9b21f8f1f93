/* address: connections to other addresses than wire_connect's. */
#pragma once

#include "tests/kit/wire_client.h"

bool has_ipv6(void); /* ::1 is there */

/* wire_connect to a loopback address of either family. */
struct wire_client *wire_dial(const char *host, uint16_t port);
