/* A program that asks for its own checkpoint. It compiles without any library and runs without dmtcp_launch, too.
 *
 *   gcc -I../../include self_checkpoint.c -o self_checkpoint
 *   dmtcp_launch ./self_checkpoint            counts to 10, takes a checkpoint, goes on
 *   dmtcp_restart ckpt_self_checkpoint_*.dmtcp     goes on from 11, every time
 */
#include <stdio.h>
#include <unistd.h>

#include "dmtcp.h"

int main(void)
{
  int step, checkpoints = 0, restarts = 0;

  setvbuf(stdout, NULL, _IOLBF, 0);
  for (step = 1; step <= 10; step++) {
    printf("step %d\n", step);
  }
  switch (dmtcp_checkpoint()) {
  case DMTCP_AFTER_CHECKPOINT: printf("the image is %s\n", dmtcp_get_ckpt_filename()); break;
  case DMTCP_AFTER_RESTART: printf("restarted\n"); break;
  case DMTCP_NOT_PRESENT: printf("no checkpoint: run me under dmtcp_launch\n"); break;
  default: printf("the checkpoint failed\n"); break;
  }
  for (; step <= 20; step++) {
    printf("step %d\n", step);
    sleep(1);
  }
  dmtcp_get_local_status(&checkpoints, &restarts);
  printf("%d checkpoints, %d restarts\n", checkpoints, restarts);
  return 0;
}
