// SPDX-License-Identifier: MIT
/* Seals the memfd that is its descriptor 3 against writing. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>

int main(void)
{
	if (fcntl(3, F_ADD_SEALS, F_SEAL_WRITE)) {
		perror("F_ADD_SEALS");
		return 1;
	}

	return 0;
}
