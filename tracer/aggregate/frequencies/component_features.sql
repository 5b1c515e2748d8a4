-- question: which features make up a component: an MLP's own, or those that a head reads from?
-- grain:    component x feature
-- cost:     one pass over the run's counts of features
INSERT INTO component_features BY NAME
SELECT 'mlp' AS kind, layer, -1 AS head, component_name('mlp', layer, -1) AS component,
    layer AS feature_layer, feature, support, influence_sum
FROM state.features WHERE by_column = ''
UNION ALL BY NAME
SELECT 'head' AS kind, layer, head, component_name('head', layer, head) AS component,
    feature_layer, feature, support, influence_sum
FROM state.head_features WHERE by_column = ''
ORDER BY kind, layer, head, feature_layer, feature
