gcloud storage buckets add-iam-policy-binding 'gs://<BUCKET>' '--member=serviceAccount:<SECOPS SERVICE ACCOUNT>' --role=roles/storage.objectViewer '--condition=expression=resource.name.startsWith("projects/_/buckets/<BUCKET>/objects/audit/acme/"),title=audit-acme'
gcloud pubsub topics create audit-acme
gcloud pubsub subscriptions create audit-acme --topic=audit-acme --ack-deadline=600
gcloud storage buckets notifications create 'gs://<BUCKET>' --topic=audit-acme --event-types=OBJECT_FINALIZE --payload-format=json --object-prefix=audit/acme/
gcloud pubsub subscriptions add-iam-policy-binding audit-acme '--member=serviceAccount:<SECOPS SERVICE ACCOUNT>' --role=roles/pubsub.subscriber
