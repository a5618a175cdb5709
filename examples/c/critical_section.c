/* A program with a section that no checkpoint may cut: a checkpoint that is asked for meanwhile waits until it is over.
 *
 *   gcc -I../../include critical_section.c -o critical_section
 *   dmtcp_launch ./critical_section
 */
#include <stdio.h>
#include <unistd.h>

#include "dmtcp.h"

int main(void)
{
  int round;

  setvbuf(stdout, NULL, _IOLBF, 0);
  for (round = 1;; round++) {
    int before, after;

    dmtcp_disable_ckpt();
    before = (int)dmtcp_get_generation();
    usleep(300 * 1000); /* say, a transaction with a device that does not survive a checkpoint */
    after = (int)dmtcp_get_generation();
    dmtcp_enable_ckpt();
    printf("round %d: %s\n", round, before == after ? "whole" : "cut");
    usleep(10 * 1000);
  }
}
