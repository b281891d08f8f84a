// What `make accept-operator` says of the operator's security, as tests. One scene for all, in their order.
import { after, before, describe, test } from 'node:test';
import { security } from '../../acceptance/operator/security.ts';
import { skipWithoutCluster } from '../../support/cluster/control-plane.ts';

const skip = await skipWithoutCluster();

describe('the operator, attacked', { skip }, () => {
  before(() => security.start?.());
  after(() => security.stop?.());
  for (const { claim, check } of security.criteria) test(claim, async () => void (await check()));
});
