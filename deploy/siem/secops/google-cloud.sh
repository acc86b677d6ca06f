gcloud storage buckets add-iam-policy-binding 'gs://<BUCKET>' '--member=serviceAccount:<SECOPS SERVICE ACCOUNT>' --role=roles/storage.objectViewer '--condition=expression=resource.name.startsWith("projects/_/buckets/<BUCKET>/objects/audit/acme/"),title=audit-acme-secops'
gcloud pubsub topics create audit-acme-secops
gcloud pubsub subscriptions create audit-acme-secops --topic=audit-acme-secops --ack-deadline=600
gcloud storage buckets notifications create 'gs://<BUCKET>' --topic=audit-acme-secops --event-types=OBJECT_FINALIZE --payload-format=json --object-prefix=audit/acme/
gcloud pubsub subscriptions add-iam-policy-binding audit-acme-secops '--member=serviceAccount:<SECOPS SERVICE ACCOUNT>' --role=roles/pubsub.subscriber
