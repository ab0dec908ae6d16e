"""Passes that have weights share few values."""

from qcompiler.passes.cluster.kmeans import Clusters, cluster
from qcompiler.passes.cluster.weights import ClusterWeights

CLUSTER = (ClusterWeights,)

__all__ = ["CLUSTER", "ClusterWeights", "Clusters", "cluster"]
